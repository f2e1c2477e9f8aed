"""What `oodbench new` writes: packages of plug-ins, from templates."""
