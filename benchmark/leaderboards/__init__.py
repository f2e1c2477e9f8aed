"""From stored runs to rows: what is compared with what, and what is significant."""
