from job import Sum
from waymark.testing import assert_survives_anything


def test_the_sum_is_right_however_often_the_job_is_interrupted() -> None:
    run = assert_survives_anything(Sum, {"numbers": [1, 2, 6]})
    assert run.result == {"sum": 9.0}
