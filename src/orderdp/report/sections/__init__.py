"""The sections of a report, a row each: its name in an outline, and the function that makes it.

A new section is a file here and a row. A new chart or table is an edit of its section's file.
"""

from orderdp.report.section import MakeSection
from orderdp.report.sections import (
    accuracy,
    alignment,
    cost,
    curves,
    decomposition,
    differences,
    frontier,
    gradients,
    lossless,
    progress,
    stability,
    usage,
    worth,
)

# In the order in which a report shows them.
SECTIONS: dict[str, MakeSection] = {
    "lossless": lossless.section,
    "accuracy": accuracy.section,
    "worth": worth.section,
    "differences": differences.section,
    "cost": cost.section,
    "frontier": frontier.section,
    "curves": curves.section,
    "decomposition": decomposition.section,
    "usage": usage.section,
    "stability": stability.section,
    "gradients": gradients.section,
    "alignment": alignment.section,
    "progress": progress.section,
}
