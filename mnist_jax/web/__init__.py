"""The page to draw on, and the server behind it.

Open `server.py` first: it says what may be asked, and answers it. `guard` turns away
other sites and what is too much, `explanations` says why an answer is as it is, and
`corrections` keeps the digits whose right answers people say. `page.html`, `page.css`
and `page.js` are the page itself, sent as they are.

Others may use the public names of `server` and `corrections`.
"""
