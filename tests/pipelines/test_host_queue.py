from pipelines.host_queue import HostQueues


def drain(queues: HostQueues[str], now: float) -> list[str]:
    out = []
    while (item := queues.pop(now)) is not None:
        out.append(item)
    return out


def test_hosts_take_turns_within_their_limit() -> None:
    queues: HostQueues[str] = HostQueues(max_active=2)
    for item in ("a1", "a2", "a3", "a4", "b1", "c1"):
        queues.push(item[0], item, 0.0)
    assert drain(queues, 0.0) == ["a1", "b1", "c1", "a2"]
    queues.release("b", 0.0)
    assert drain(queues, 0.0) == []
    queues.release("a", 0.0)
    assert drain(queues, 0.0) == ["a3"]
    queues.push("a", "hop", 0.0, in_front=True)
    queues.release("a", 0.0)
    queues.release("a", 0.0)
    assert drain(queues, 0.0) == ["hop", "a4"]


def test_later_items_and_pauses() -> None:
    queues: HostQueues[str] = HostQueues(max_active=9)
    queues.push_later("a", "a2", 2.0)
    queues.push("a", "a1", 0.0)
    queues.push("b", "b1", 0.0)
    queues.pause("b", 3.0)
    assert drain(queues, 0.0) == ["a1"]
    assert queues.next_due() == 2.0
    assert drain(queues, 2.5) == ["a2"]
    assert queues.next_due() == 3.0
    assert drain(queues, 3.0) == ["b1"]
    assert queues.next_due() is None


def test_clear_keeps_a_pause() -> None:
    queues: HostQueues[str] = HostQueues(max_active=1)
    queues.push("a", "old", 0.0)
    queues.pop(0.0)
    queues.pause("a", 5.0)
    queues.clear(1.0)
    queues.push("a", "new", 1.0)
    assert drain(queues, 1.0) == []
    assert drain(queues, 5.0) == ["new"]
