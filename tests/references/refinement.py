"""RUM's bookkeeping with sets and loops."""


def steps(parts, order, forget, retain):
    """For each part in order: its name, what is forgotten, and what is retained meanwhile."""
    retained = set(retain)
    waiting = set(forget)
    found = []
    for name in order:
        waiting = waiting - set(parts[name])
        found.append((name, set(parts[name]), retained | waiting))
    return found


def thirds(forget, scores, count):
    """The forget set by ascending score, in `count` runs; the first runs get one more."""
    ranked = sorted(forget, key=lambda example: scores[example])
    each, more = divmod(len(ranked), count)
    runs, first = [], 0
    for i in range(count):
        last = first + each + (i < more)
        runs.append(ranked[first:last])
        first = last
    return runs
