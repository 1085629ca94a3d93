"""A page while it is written: its ink, its printed lines, and where digits stand."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnist_jax.drawing.masks import ink_box
from mnist_jax.drawing.opencv import load_opencv
from mnist_jax.simulation.page_digits import Hand, Pool

UNREADABLE = -1  # the class of a digit that is cut or covered
_LARGEST = 4.0  # by which a page is stretched at a place


class Written(NamedTuple):
    """A digit on a sheet."""

    mask: np.ndarray  # its ink, uint8 [h, w]
    left: int
    top: int
    label: int
    line: int


class Sheet:
    """What is drawn on a page, in the picture's pixels.

    Places are given on the flat page; `matrix` maps them to the picture, which is how a
    camera held at an angle sees the page. So each shape is drawn only once, sharp, and
    its box is that of its ink.

    Attributes:
      rng: everything on the page is drawn from it.
      ink: what was written by hand, coverage uint8 [H, W].
      frame: what was printed, coverage uint8 [H, W].
      height: of the digits, in pixels.
      hand: who writes.
      pool: images to write with.
      digits: those that were written.
      second_height: of the digits of later rows; None for the same.
      is_empty: whether layouts leave out the digits.
      faintest: of how much ink each digit has; 1 for all the same.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int],
        matrix: np.ndarray,
        height: float,
        hand: Hand,
        pool: Pool,
    ) -> None:
        self.rng = rng
        self.ink = np.zeros(shape, np.uint8)
        self.frame = np.zeros(shape, np.uint8)
        self.matrix = matrix
        self._numbers = matrix.tolist()
        self.height = height
        self.hand = hand
        self.pool = pool
        self.digits: list[Written] = []
        self.second_height: float | None = None
        self.is_empty = False
        self.faintest = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.ink.shape[0], self.ink.shape[1]

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Maps points of the page, float [n, 2], to the picture."""
        points = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return points[:, :2] / points[:, 2:]

    def _place(self, x: float, y: float) -> tuple[float, float]:
        """Maps one point of the page to the picture."""
        (a, b, c), (d, e, f), (g, h, i) = self._numbers
        far = g * x + h * y + i
        return (a * x + b * y + c) / far, (d * x + e * y + f) / far

    def turn_at(self, x: float, y: float) -> np.ndarray:
        """Returns how the page is turned and stretched at a place, float [2, 2].

        Far beside the picture a page that is seen from the side stretches without end,
        and what is written there would fill the memory. So it is stretched by
        `_LARGEST` at most.
        """
        across, down = self._place(x, y)
        right, below = self._place(x + 1, y), self._place(x, y + 1)
        turn = np.array(
            [
                [right[0] - across, below[0] - across],
                [right[1] - down, below[1] - down],
            ]
        )
        return turn / max(1.0, float(np.abs(turn).max()) / _LARGEST)

    def line(
        self,
        points: Sequence[tuple[float, float]] | np.ndarray,
        width: float,
        closed: bool = False,
        on: np.ndarray | None = None,
        shade: int = 255,
    ) -> None:
        """Draws straight lines between places.

        Args:
          points: (x, y) on the page.
          width: in pixels; below one it is drawn fainter.
          closed: whether the last is joined with the first.
          on: `ink` or `frame`; `frame` if None.
          shade: 0 to 255.
        """
        cv2 = load_opencv()
        places = np.clip(self.to_picture(np.asarray(points, float)), -4000, 4000)
        places = np.round(places * 16).astype(np.int32)
        shade = int(shade * min(1.0, max(width, 0.3)))
        canvas = self.frame if on is None else on
        pen = max(1, round(width))
        cv2.polylines(canvas, [places], closed, shade, pen, cv2.LINE_AA, 4)

    def fill(
        self, points: np.ndarray, shade: int, on: np.ndarray | None = None
    ) -> None:
        """Fills a polygon, float [n, 2] on the page."""
        cv2 = load_opencv()
        places = np.round(self.to_picture(points) * 16).astype(np.int32)
        canvas = self.frame if on is None else on
        cv2.fillPoly(canvas, [places], shade, cv2.LINE_AA, 4)

    def overlap(
        self, mask: np.ndarray, x: float, y: float, on: np.ndarray | None = None
    ) -> float:
        """Returns which share of a shape's ink would stand on ink, or on the frame."""
        left, top = self._corner(mask, x, y)
        canvas = self.ink if on is None else on
        there, part = self._meet(canvas, mask, left, top)
        both = int(np.count_nonzero(np.minimum(there, part) > 100))
        return both / max(1, int(np.count_nonzero(mask > 100)))

    def put(
        self, mask: np.ndarray, x: float, y: float, on: np.ndarray | None = None
    ) -> None:
        """Puts a shape's middle at a place of the page, in ink if `on` is None."""
        canvas = self.ink if on is None else on
        left, top = self._corner(mask, x, y)
        there, part = self._meet(canvas, mask, left, top)
        np.maximum(there, part, out=there)

    def put_digit(
        self, mask: np.ndarray, x: float, y: float, label: int, line: int
    ) -> None:
        """Puts a digit's middle at a place of the page, and notes where it stands."""
        if self.faintest < 1:
            mask = (mask * self.rng.uniform(self.faintest, 1)).astype(np.uint8)
        self.put(mask, x, y)
        left, top = self._corner(mask, x, y)
        box = ink_box(mask)
        if box is not None:
            ink = mask[box[1] : box[3], box[0] : box[2]]
            self.digits.append(Written(ink, left + box[0], top + box[1], label, line))

    def _corner(self, mask: np.ndarray, x: float, y: float) -> tuple[int, int]:
        across, down = self._place(x, y)
        height, width = mask.shape
        return round(across - width / 2), round(down - height / 2)

    @staticmethod
    def _meet(
        canvas: np.ndarray, mask: np.ndarray, left: int, top: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the parts of a canvas and of a shape on it that lie on each other."""
        height, width = canvas.shape
        right, bottom = left + mask.shape[1], top + mask.shape[0]
        rows = slice(max(0, top), max(0, min(height, bottom)))
        columns = slice(max(0, left), max(0, min(width, right)))
        there = canvas[rows, columns]
        part = mask[max(0, -top) :, max(0, -left) :]
        return there, part[: there.shape[0], : there.shape[1]]

    def boxes(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """Returns the digits in a window (left, top, right, bottom) of the picture.

        Returns:
          float32 [N, 6] as in `pages.Page`, by line and from left to right. A digit of
          which much is outside is unreadable; if almost all is, it is left out.
        """
        left, top, right, bottom = window
        rows = []
        for digit in self.digits:
            x, y = digit.left - left, digit.top - top
            part = digit.mask[max(0, -y) : max(0, bottom - digit.top)]
            part = part[:, max(0, -x) : max(0, right - digit.left)]
            box = ink_box(part) if part.size else None
            if box is None:
                continue
            ink = int(np.count_nonzero(digit.mask > 100))
            seen = int(np.count_nonzero(part > 100)) / max(1, ink)
            if seen < 0.06:
                continue
            width, height = box[2] - box[0], box[3] - box[1]
            is_whole = (
                seen > 0.87
                and height > 0.86 * digit.mask.shape[0]
                and width > 0.8 * digit.mask.shape[1]
            )
            middle_x = max(0, x) + (box[0] + box[2]) / 2
            middle_y = max(0, y) + (box[1] + box[3]) / 2
            label = digit.label if is_whole else UNREADABLE
            rows.append((middle_x, middle_y, width, height, label, digit.line))
        rows.sort(key=lambda row: (row[5], row[0]))
        found = np.array(rows, np.float32).reshape(-1, 6)
        if len(found):  # lines count from 0, also where some are outside
            found[:, 5] = np.unique(found[:, 5], return_inverse=True)[1]
        return found
