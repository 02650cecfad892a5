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
centre = 0.0
scale = 1.0

[[variables]]
name = "b"
centre = 0.0
scale = 1.0

[[variables]]
name = "c"
centre = 0.0
scale = 1.0
"""

PRIVATE_STUDY = (
    SMALL_STUDY.replace(
        "[policy]", '[privacy]\nmode = "statistic"\nepsilon = 4.0\ndelta = 1e-5\nradius = 1.5\n\n[policy]'
    )
    .replace('name = "a"', 'name = "a"\nlower = -5.0\nupper = 5.0')
    .replace('name = "b"', 'name = "b"\nlower = -6.0\nupper = 6.0')
    .replace('name = "c"', 'name = "c"\nlower = -5.0\nupper = 5.0')
)
"""The same where each node releases with noise. Records as in `small_files` fit its bounds."""
