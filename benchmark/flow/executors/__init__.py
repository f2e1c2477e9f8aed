"""Executors hand jobs to workers; a job's whole product is entries of the store."""
