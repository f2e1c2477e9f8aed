"""`python -m oodbench …` is `oodbench …`."""

from oodbench.cli import main

if __name__ == "__main__":
    main()
