"""``python -m jnas`` is the program ``jnas``."""

from jnas.cli import entry

if __name__ == "__main__":
    entry()
