"""Makes pictures such as people send, to measure readers with and to train them on.

Open `pages.py` first: `make_page` makes pages of digits, with their boxes, of every
kind that readers meet. `page_layouts` and `page_forms` say what stands where on a
`page_sheet`, `page_digits`, `page_rows`, `page_marks` and `page_frames` draw it, and
`page_camera` turns the ink into a picture; `page_photos` has what is no page.
`page_reduced` makes larger pages, and reduces them.

`simulator` makes pictures of single digits, in colour, under every condition, and
`measure_conditions` reads them with a model. `scenes` has its pens, papers and lights.
`one_hand` writes as one person does, whose hand a reader is to be adapted to.

Others may use the public names of `pages` and of `simulator`.
"""
