"""Source code as data: what a class uses, in a form that only a change of meaning changes."""
