"""`report.html` of a bundle: one page that says how the training went, what is normal and what is strange.

What is said is computed in one module each and gathered in `evidence`; `pictures` draws it, `page` writes it.
"""
