"""The paper: its studies, theorems and figures."""
