"""The private core: what the public packages are made of.

Read downwards, it is what happens: code *registers* a callback on an *exchange*; the
adapter ends the exchange and gives it to the *runner*, whose dispatch makes chains that ask
*capacity* for a place; a *lane* runs them; the exchange settles each, and *instrumentation*
hears of it. *Delivery* knows how far the bytes got; *runtime* knows the process.

Nothing here is public but what ``async_after`` and its public packages export by name.
"""
