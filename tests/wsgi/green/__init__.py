"""A Django site with a database, for gunicorn's gevent worker."""
