"""The tree of a job's merges: at most 64 children per node, so that no task of the queue waits for more than 64."""

MAX_CHILDREN = 64


def merge_levels(tasks: int) -> list[list[range]]:
    """Return the merge nodes level by level: `levels[level][index]` are the children that the node merges.

    Children of level 0 are score tasks; those of a higher level are nodes of the level below. There is always a level
    0, and the last level has at most 64 nodes, which `finish` merges.
    """
    levels = [_nodes(tasks)]
    while len(levels[-1]) > MAX_CHILDREN:
        levels.append(_nodes(len(levels[-1])))
    return levels


def _nodes(children: int) -> list[range]:
    return [range(first, min(first + MAX_CHILDREN, children)) for first in range(0, children, MAX_CHILDREN)]
