def profile(job):
    pass
