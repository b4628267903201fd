"""What becomes of a notification, and until when it holds then: the contract's table of holds, row by row.

An outcome takes a mentor who has just been claimed for, brings her notification into one state, and returns when its
hold is over by the contract: a milestone's year 9999 is for good; None: it holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from tests.integration.delivery import settle, settlement
from tests.integration.histories import DAY, HOUR, MINUTE, REFUSALS, Mentor, Refusal

Outcome = Callable[[Mentor], datetime | None]
MAX_ATTEMPTS: Final = 8
LOOK_AHEAD: Final = ("certification_expiry",)


def pending(mentor: Mentor) -> datetime:
    """Nobody has it in hand: for as long as it may be handed out, and the cooldown."""
    row = mentor.row()
    until: datetime = row["deliver_until"]
    return max(until, mentor.after(row["triggered_at"]))


def released(mentor: Mentor) -> datetime:
    """Give it back, untried: nobody has it in hand again."""
    mentor.wait(HOUR)
    mentor.deliver("released")
    return pending(mentor)


def waiting_for_another_try(mentor: Mentor) -> datetime:
    """One try has failed: nobody has it in hand."""
    mentor.wait(HOUR)
    mentor.deliver("retry", "provider_down")
    return pending(mentor)


def under_lease(mentor: Mentor) -> datetime:
    """As sent when the lease is over."""
    mentor.wait(2 * DAY)
    return mentor.after(mentor.lease(3600)["leased_until"])


def lease_ran_out(mentor: Mentor) -> datetime:
    """As sent when the lease was over: it may have been."""
    mentor.wait(2 * DAY)
    return mentor.after(mentor.let_a_lease_run_out())


def released_after_a_lease_ran_out(mentor: Mentor) -> datetime:
    """She may have been told by the first lease."""
    mentor.wait(2 * DAY)
    until = mentor.let_a_lease_run_out()
    mentor.deliver("released")
    return max(pending(mentor), mentor.after(until))


def sent(mentor: Mentor) -> datetime:
    """From the sending on, not from the trigger."""
    mentor.wait(HOUR)
    return mentor.after(mentor.deliver("sent"))


def sent_late(mentor: Mentor) -> datetime:
    """Nobody delivered for days."""
    mentor.wait(7 * DAY - MINUTE)
    return mentor.after(mentor.deliver("sent"))


def sent_and_told_late(mentor: Mentor) -> datetime:
    """Say so when the lease is over: it was sent before that."""
    with mentor.worker.transaction():
        leased = mentor.lease(60)
    mentor.wait(HOUR)
    assert settle(mentor.worker, [settlement(leased, "sent")]) == ["sent"]
    return mentor.after(leased["leased_until"] - HOUR)


def sent_by_plain_update(mentor: Mentor) -> datetime:
    """Record it by hand, long after it was handed out for the last time: the books are kept for whoever writes."""
    mentor.wait(9 * DAY)
    return mentor.after(mentor.update(delivery_status="sent"))


def failed(mentor: Mentor) -> datetime:
    """Fail to deliver: it is tried again a day later."""
    mentor.wait(2 * DAY)
    return mentor.deliver("failed", "invalid_token") + DAY


def failed_without_a_code(mentor: Mentor) -> datetime:
    """Whether or not the sender says why."""
    return mentor.deliver("failed") + DAY


def failed_by_plain_update(mentor: Mentor) -> datetime:
    """Whoever writes it."""
    mentor.wait(HOUR)
    return mentor.update(delivery_status="failed", failure_code="mailbox_full") + DAY


def attempts_spent(mentor: Mentor) -> datetime:
    """Every try failed, and is known to have."""
    for _ in range(MAX_ATTEMPTS - 1):
        mentor.try_again()
    moment = mentor.deliver("retry", "provider_down")
    assert mentor.row()["failure_code"] == "attempts_spent"
    return moment + DAY


def expired_after_failures(mentor: Mentor) -> datetime:
    """Have it expire where a try is known to have failed, with a code or without one."""
    mentor.try_again(None)
    mentor.wait(8 * DAY)
    moment = mentor.be_refused()
    assert mentor.row()["failure_code"] == "expired"
    return moment + DAY


def expired_untried(mentor: Mentor) -> None:
    """Nobody ran: nobody was told, and nothing failed."""
    mentor.wait(8 * DAY)
    mentor.be_refused()
    assert mentor.row()["failure_code"] == "expired"


def expired_after_a_release(mentor: Mentor) -> None:
    """Have it expire after a release, which is no try."""
    mentor.deliver("released")
    expired_untried(mentor)


def suppressed(mentor: Mentor) -> datetime:
    """There was nobody to tell: for the cooldown, or a day where what is ahead comes nearer."""
    mentor.wait(HOUR)
    moment = mentor.deliver("suppressed")
    assert mentor.row()["failure_code"] == "suppressed"
    return moment + DAY if mentor.kind in LOOK_AHEAD else mentor.after(moment)


def suppressed_until_a_device_came(mentor: Mentor) -> None:
    """Register a device afterwards: it can be told."""
    mentor.deliver("suppressed")
    mentor.wait(HOUR)
    mentor.register_device()


def suppressed_with_an_older_device(mentor: Mentor) -> datetime:
    """Have a device from before, which changes nothing."""
    mentor.register_device()
    mentor.wait(HOUR)
    return suppressed(mentor)


def cancelled(mentor: Mentor) -> datetime:
    """Somebody wanted her not to be told."""
    mentor.wait(HOUR)
    return mentor.after(mentor.update(delivery_status="failed", failure_code="cancelled"))


def cancelled_and_a_device_came(mentor: Mentor) -> datetime:
    """Register a device afterwards, which changes nothing about that."""
    end = cancelled(mentor)
    mentor.register_device()
    return end


def attempts_spent_by_dying(mentor: Mentor) -> datetime:
    """Each worker died with it in hand: she may have been told, last by the last of them."""
    for _ in range(MAX_ATTEMPTS):
        until = mentor.let_a_lease_run_out()
    mentor.be_refused()
    assert mentor.row()["failure_code"] == "attempts_spent"
    return mentor.after(until)


def expired_after_a_lease_ran_out(mentor: Mentor) -> datetime:
    """She may have been told by then."""
    until = mentor.let_a_lease_run_out()
    mentor.wait(8 * DAY)
    mentor.be_refused()
    assert mentor.row()["failure_code"] == "expired"
    return mentor.after(until - 8 * DAY)


def expired_long_after_a_lease_ran_out(mentor: Mentor) -> datetime:
    """Also where another lease has been settled since."""
    until = mentor.let_a_lease_run_out()
    mentor.try_again()
    mentor.wait(8 * DAY)
    mentor.be_refused()
    return mentor.after(until - 8 * DAY - 6 * HOUR)


def failed_after_a_lease_ran_out(mentor: Mentor) -> datetime:
    """Fail under the second lease, where the first may have reached her."""
    until = mentor.let_a_lease_run_out()
    mentor.deliver("failed", "invalid_token")
    return mentor.after(until)


def refused(refusal: Refusal) -> Outcome:
    """Refused at the lease, and over: it holds nothing."""

    def outcome(mentor: Mentor) -> None:
        refusal.begin(mentor.database, mentor.user)
        mentor.be_refused()
        assert mentor.row()["failure_code"] == refusal.reason
        refusal.end(mentor.database, mentor.user)

    outcome.__name__ = refusal.reason
    return outcome


def refused_after_a_lease_ran_out(refusal: Refusal) -> Outcome:
    """Refused at the lease: but she may have been told."""

    def outcome(mentor: Mentor) -> datetime:
        until = mentor.let_a_lease_run_out()
        refused(refusal)(mentor)
        return mentor.after(until)

    outcome.__name__ = f"{refusal.reason}_after_a_lease_ran_out"
    return outcome


COUNTING: Final[tuple[Outcome, ...]] = (
    pending,
    released,
    waiting_for_another_try,
    under_lease,
    lease_ran_out,
    released_after_a_lease_ran_out,
    sent,
    sent_late,
    sent_and_told_late,
    sent_by_plain_update,
    attempts_spent_by_dying,
    expired_after_a_lease_ran_out,
    expired_long_after_a_lease_ran_out,
    failed_after_a_lease_ran_out,
    *map(refused_after_a_lease_ran_out, REFUSALS),
)
"""By which she was told, will be, or may have been: they count as reminders."""
NOT_COUNTING: Final[tuple[Outcome, ...]] = (
    failed,
    failed_without_a_code,
    failed_by_plain_update,
    attempts_spent,
    expired_after_failures,
    expired_untried,
    expired_after_a_release,
    suppressed,
    suppressed_until_a_device_came,
    suppressed_with_an_older_device,
    cancelled,
    cancelled_and_a_device_came,
    *map(refused, REFUSALS),
)
