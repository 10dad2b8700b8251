"""gunicorn's settings."""

bind = "0.0.0.0:5050"
wsgi_app = "stack:application"
pythonpath = "/etc/pgadmin"
workers = 1  # pgAdmin keeps the database connections of its users in the process
worker_class = "gthread"
threads = 16
worker_tmp_dir = "/dev/shm"  # in memory: the heartbeat never waits for a disk
timeout = 120  # the first start creates the configuration database
graceful_timeout = 5
control_socket_disable = True
