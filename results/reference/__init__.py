"""Numbers printed in the papers, one CSV per table; see the README beside them."""
