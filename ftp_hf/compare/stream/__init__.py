"""
Streams: stages of training one after the other, each method in several orders and with several seeds, and after every
stage the figures on all of them. The runs are those of a comparison, found in their folders in the same way.

Adding a method is an entry in `methods`, of a method that comparisons have.
"""
