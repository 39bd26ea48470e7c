"""The report of finished runs: one page that needs no network, and its tables as Markdown, CSV and LaTeX."""

from orderdp.experiments.report.page import write_report

__all__ = ["write_report"]
