"""One thin file for each training framework, imported by name: `from orderdp.integrations import ignite`."""
