"""A run: its configuration (`config`), its members (`members`), their parts (`build`), and the folder that holds it."""
