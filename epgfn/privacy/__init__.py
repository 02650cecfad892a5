"""Differential privacy of what a node sends: mechanisms, accounting, claims, ledger, attack. docs/privacy.md has the proofs.

    statistic, counts, answers, gradient    the mechanisms, one a mode (statistic and counts are both mode `statistic`)
    accounting, sensitivity, discrete       epsilon from noise, noise from sensitivity, integers and their noise
    release, claims                         one noisy stage; what is promised of it, recomputed by whoever reads it
    checks, spending, ledger_file, empirical    refusals before, the budget and how it is kept, the attack after

Nothing here knows a network, a study file or a socket.
"""
