"""The reference trainer: data, models, recipe, loop."""
