"""Results on their way to others: archives of entries, published tables and what is behind them."""
