"""The text of a study that trains in seconds: three variables, two nodes."""

SMALL_STUDY = """
name = "small"
roster = ["north", "south"]
seed = 3

[space]
max_parents = 2

[policy]
hidden = 16

[training]
steps = 12
batch = 64

[aggregation]
steps = 12
batch = 64
samples = 200

[[variables]]
name = "a"

[[variables]]
name = "b"

[[variables]]
name = "c"
"""
