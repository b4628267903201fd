"""The job queues of the field, behind one small interface."""
