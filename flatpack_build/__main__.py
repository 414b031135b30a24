"""``python -m flatpack_build``: the same as the console script ``flatpack``."""

from flatpack_build.cli import main

if __name__ == "__main__":
    main()
