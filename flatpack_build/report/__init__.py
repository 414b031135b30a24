"""A finished build, told to those who were not there: a job page, a test report, a program."""
