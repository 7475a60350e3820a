"""What a selection is worth: proxies trained on it from scratch, tested on held-out samples (docs/quality.md)."""

from coreset.strict import Strict


class Quality(Strict):
    """What one proxy can do.

    Attributes:
        accuracy: zero-shot, where the test's captions are classes; else None.
        image_to_text, text_to_image: R@k by k.
    """

    accuracy: float | None
    image_to_text: dict[int, float]
    text_to_image: dict[int, float]

    @property
    def points(self) -> float:
        """The one number of it, in percent: accuracy, or the mean of the six recalls."""
        if self.accuracy is not None:
            return 100 * self.accuracy
        recalls = [*self.image_to_text.values(), *self.text_to_image.values()]
        return 100 * sum(recalls) / len(recalls)
