"""Several taggers on the same jets, several seeds each, and the leaderboard that they make.

`plan` says which runs there are and where, `workers` carries them out as processes, `measure` takes what a
trained run costs and how it bears boosts, `board` gathers run folders into a leaderboard, `tables` and
`tracking` show it. Every run is an ordinary run folder, so that what a batch system, another machine or
`hepml train` made is gathered in the same way.
"""
