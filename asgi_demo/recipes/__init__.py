"""Recipes: each module here is one to copy, whole, into a project of yours.

Each begins with what it does and where it goes. All need the ASGI or WSGI
wrapper or the Django middleware (README); those that receive
``response_finished`` or ask for a view's exception need the middleware, alone or
behind a wrapper.
"""
