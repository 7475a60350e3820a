"""The shape of a job's merges: a tree of 64, so that no task of the queue waits for more than 64 others."""

WIDTH = 64


def fan_in(tasks: int) -> list[list[range]]:
    """Return the merge nodes level by level: `levels[level][index]` are the children that the node merges.

    Children of level 0 are score tasks; those of a higher level are nodes of the level below. There is always a
    level 0, and the last level has at most 64 nodes: they are what `finish` merges.
    """
    levels = [_nodes(tasks)]
    while len(levels[-1]) > WIDTH:
        levels.append(_nodes(len(levels[-1])))
    return levels


def _nodes(children: int) -> list[range]:
    return [range(first, min(first + WIDTH, children)) for first in range(0, children, WIDTH)]
