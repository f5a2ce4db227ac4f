"""The strikes against a version, in memory that several processes share."""

import os
import subprocess
import sys

from service.models import quarantine
from service.models.quarantine import MOST_STRIKES, Quarantine

ONE, OTHER = "ab" * 32, "cd" * 32


def test_a_version_is_held_after_its_last_strike_and_no_other_one() -> None:
    strikes = Quarantine(quarantine.new_file())
    for count in range(1, MOST_STRIKES + 1):
        assert not strikes.holds(ONE)
        assert strikes.strike(ONE) == count
    assert strikes.holds(ONE)
    assert not strikes.holds(OTHER)
    assert strikes.strikes(OTHER) == 0


def test_another_process_sees_it_and_counts_on() -> None:
    file = quarantine.new_file()
    here = Quarantine(file)
    here.strike(ONE)
    code = f"from service.models.quarantine import Quarantine; print(Quarantine({file}).strike('{ONE}'))"
    os.set_inheritable(file, True)
    result = subprocess.run([sys.executable, "-c", code], pass_fds=[file], capture_output=True, text=True, check=True)
    assert result.stdout == "2\n"
    assert here.holds(ONE)


def test_with_no_slot_left_what_is_struck_is_held() -> None:
    strikes = Quarantine(quarantine.new_file())
    for number in range(256):
        strikes.strike(f"{number:064x}")
    assert strikes.strike(ONE) == MOST_STRIKES
