"""What is written for people: whole files, tables of text, plots."""
