"""A page of tables and charts about finished runs."""
