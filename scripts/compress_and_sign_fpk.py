"""The original Flatpack's script of this name; ``--help`` shows its options. Also installed as a command."""

from flatpack_build.cli.original import main_compress_and_sign

if __name__ == "__main__":
    main_compress_and_sign()
