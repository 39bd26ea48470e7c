"""The paper's experiments as studies, and what they and the planner show."""
