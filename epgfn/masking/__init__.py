"""Sums of which only the total can be read: pairwise masks, shares for those who drop out, and who may be told what when.

Secure aggregation after Bonawitz et al. (CCS 2017, doi:10.1145/3133956.3133982), with the list of nodes signed by every node that goes on.
Nothing here knows of files, calls or studies: `party` is what one node keeps, `collector` what the coordinator computes, `masks` and
`shamir` what both are made of. docs/formats/masked-sum.md has the messages.
"""
