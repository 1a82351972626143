"""What ranks do together, and the order in which they add.

The number of ranks changes nothing but the time. What is drawn depends on counters, not on who draws it; and sums over
the parts of a batch are made along a binary tree that stands before anyone asks who computes what. Its node over parts
first .. last - 1 adds the node over the first of them, as many as the largest power of two that leaves some, and the node
over the rest:

    P = 4   (0 + 1) + (2 + 3)            P = 6   ((0 + 1) + (2 + 3)) + (4 + 5)

A rank computes P / R parts that are neighbours. Nodes that are all its own it makes by itself. Of a node that several
share, those who have one half only get the other from one who has it, all at once and where they can two from each
other; and all make the same addition ("recursive doubling"). With R a power of two these are log2(R) exchanges of the
whole array.

Source: Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in MPICH", 2005, 4.
"""

from __future__ import annotations

import platform

from tinydiff.backends.cores import usable_cores


class Ranks:
    """Which of how many processes this is, and what they do together; here of one alone, which sends nothing.

    rank, size              this one, 0 .. size - 1, of all. Rank 0 writes and speaks
    local_rank, local_size  the same of those on this machine, which is called ``host``
    threads                 how many this one should work with, so that those of a machine share its cores
    transport               what carries what they say, in words
    """

    rank, size = 0, 1
    local_rank, local_size = 0, 1
    transport = "none: it is alone"

    def __init__(self):
        self.host, self.threads = platform.node(), usable_cores()

    def __str__(self):
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.host}, {self.local_rank + 1} of {self.local_size} there, {threads}, {self.transport}"

    @property
    def speaks(self):
        """Whether this one writes files and says what happens."""
        return self.rank == 0

    def share(self, count):
        """Which of ``count`` things are this rank's: a range, in rank order, of as many as each other rank's or one less."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def expect_to_share(self, parts):
        """Raise ``ValueError`` unless each rank gets as many of so many parts."""
        if parts % self.size:
            raise ValueError(f"parts must be a multiple of the number of ranks, {self.size}, got {parts}")

    def sum_tree(self, flat, parts, compute):
        """Leave in ``flat``, on every rank, the sum of what ``compute(part)`` leaves there, over parts 0 .. parts - 1.

        Each rank computes its ``share``, in rising order. The sum has the same bits for any number of ranks.
        Raises ``ValueError`` unless each gets as many.
        """
        self.expect_to_share(parts)
        self._sum(flat, 0, parts, parts // self.size, compute)

    def _sum(self, flat, first, last, each, compute):
        """The node over parts first .. last - 1, some of which are this rank's; every rank has ``each`` of them."""
        if last - first == 1:
            compute(first)
            return
        middle = first + (1 << (last - first - 1).bit_length() - 1)
        owners = [range(begin // each, (end - 1) // each + 1) for begin, end in ((first, middle), (middle, last))]
        left = right = None
        if self.rank in owners[0]:
            self._sum(flat, first, middle, each, compute)
            left = flat
        if self.rank in owners[1]:
            left = None if left is None else flat.copy()
            self._sum(flat, middle, last, each, compute)
            right = flat
        if owners[0] != owners[1]:
            received = self._complete(left, right, *owners)
            left, right = (received if half is None else half for half in (left, right))
        flat += left if right is flat else right

    def _complete(self, left, right, left_owners, right_owners):
        """Send the halves of a node to those of its owners who lack one; return the one that this rank lacks, if any."""
        sends, source = [], None
        for half, owners, others in ((left, left_owners, right_owners), (right, right_owners, left_owners)):
            lacking = [rank for rank in others if rank not in owners]
            for place, rank in enumerate(lacking):
                sender = owners[place % len(owners)]
                if sender == self.rank:
                    sends.append((rank, half))
                elif rank == self.rank:
                    source = sender
        return self._exchange(sends, source, like=right if left is None else left)

    def _exchange(self, sends, source, like):
        """Send arrays to ranks, ``sends`` [(rank, array)]; return what rank ``source`` sends, an array ``like`` this one,
        or None if it is None."""
        raise NotImplementedError("a process alone has nobody to send to")

    def take_gpu(self):
        """Make a GPU of this machine the current one, each rank's another. Raises ``ValueError`` if they are fewer."""

    def expect_same(self, facts):
        """Raise ``ValueError`` unless ``facts``, {name: value}, are the same on all ranks: the first that is not, on the
        first rank that differs from rank 0."""
        ours, *others = self.gather(facts)
        for rank, theirs in enumerate(others, 1):
            for name in ours | theirs:
                if theirs.get(name) != ours.get(name):
                    values = f"{theirs.get(name)} on rank {rank}, {ours.get(name)} on rank 0"
                    raise ValueError(f"all ranks must have the same {name}, got {values}")

    def one_first(self, function):
        """What ``function()`` returns, called on each machine by one rank before the others: what it had to fetch or make
        lies there for them."""
        made = function() if self.local_rank == 0 else None
        self.barrier()
        return made if self.local_rank == 0 else function()

    def gather(self, value):
        """What every rank gives, in their order, on every rank."""
        return [value]

    def broadcast(self, value):
        """What rank 0 gives, on every rank."""
        return value

    def barrier(self):
        """Wait until all ranks are here."""

    def abort(self, status, reason):
        """End all ranks at once, with this exit status, and say why: of several that fail in the same way, one does."""
        raise SystemExit(status)
