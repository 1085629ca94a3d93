"""Reads the digits in pictures that people send.

Open `reader.py` first: `Reader` reads pictures, and returns `predictions` for each.
`paths` finds picture files, `files` decodes them safely, with `phone_photos` for HEIC
and AVIF, and `unwrap` for data URLs and archives. `file_pages` goes through their
pages, and `pdf_pages` has those of a PDF drawn by the process `pdf_worker`;
`load_ahead` does so in threads. `page_reader` reads the digits of pages: `page_passes`
runs the nets of `page_nets` at several scales, on the tiles of `page_tiles`,
`digit_cuts` cuts what they find into 28x28 images for the digit net, and `lines` puts
digits in order.
`pictures` is for one digit or letter that fills a picture. `answers` is the form of
answers for programs, `answer_files` writes them, `answer_text` is for people, and
`annotate` draws on the picture. `labels` finds right answers, and `score` counts what
agrees with them. `readings` is `reader` for Python and notebooks: it takes pictures in
any form, and shows what it read. `picture_folders` makes a data set of folders of
pictures. `page_task` is the task that page nets learn, with `page_loss` and
`page_points`.

Others may use the public names of `reader`, `readings`, `predictions`, `page_reader`,
`paths`, `files`, `file_pages`, `answers`, `answer_files`, `answer_text`, `annotate`,
`labels`, `score` and `pictures`.
"""
