"""epgfn: one Bayesian posterior over discrete structures from private data sets that never leave their houses."""
