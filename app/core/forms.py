"""What visitors may send."""

from django import forms

from core.models import Entry


class TextField(forms.CharField):
    """A text whose line breaks count as one character, as they do in the browser that sends two."""

    def to_python(self, value: object) -> str:
        """Return the text with plain line breaks."""
        return super().to_python(value).replace("\r\n", "\n")


class EntryForm(forms.ModelForm):
    """A new entry."""

    class Meta:
        """The server fills in the other fields."""

        model = Entry
        fields = ["text", "author"]
        labels = {"text": "Your entry", "author": "Your name"}
        help_texts = {"author": "Optional."}
        error_messages = {"text": {"required": "Write something: the text is blank."}}
        field_classes = {"text": TextField}
        widgets = {
            "text": forms.Textarea(attrs={"rows": 3}),
            "author": forms.TextInput(attrs={"autocomplete": "name"}),
        }

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # After a refusal the cursor waits where the mistake is.
        for name in list(self.errors)[:1]:
            self.fields[name].widget.attrs["autofocus"] = True
