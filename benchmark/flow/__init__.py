"""The flow of a job, fit, measure, score, rank: what is planned, keyed, done and recorded."""
