"""The report: one HTML page that shows what a store holds, and needs nothing from elsewhere."""
