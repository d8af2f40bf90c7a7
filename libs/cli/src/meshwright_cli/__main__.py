"""`python -m meshwright_cli` is the command `meshwright`."""

from meshwright_cli.main import main

if __name__ == "__main__":
    main()
