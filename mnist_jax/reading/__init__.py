"""Reads the digits in pictures that people send.

Open `reader.py` first: `Reader` reads pictures with one model, and returns a
`Prediction` for each. `paths` finds picture files, `files` decodes them safely, and
`file_pages` goes through their pages. `answers` is the form of answers for programs,
`answer_files` writes them, `answer_text` is for people, and `annotate` draws on the
picture. `labels` finds right answers, and `score` counts what agrees with them. Between
a picture and the model stand `pictures` (which finds the ink of one digit and brings it
to MNIST's size) and `layout`, `pieces` and `seams` (which separate the digits of a
number). `page_task` is the task of a net that marks the digits of whole pages, with
`page_loss` and `page_points`.

Others may use the public names of `reader`, `paths`, `files`, `file_pages`, `answers`,
`answer_files`, `answer_text`, `annotate`, `labels`, `score` and `pictures`.
"""
