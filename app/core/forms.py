"""What visitors may send."""

from django import forms

from core.models import Entry


class EntryForm(forms.ModelForm):
    """A new entry."""

    class Meta:
        """The server fills in the other fields."""

        model = Entry
        fields = ["text", "author"]
        labels = {"text": "Your entry", "author": "Your name"}
        help_texts = {"author": "Optional."}
        error_messages = {"text": {"required": "Write something: the text is blank."}}
        widgets = {
            "text": forms.Textarea(attrs={"rows": 3}),
            "author": forms.TextInput(attrs={"autocomplete": "name"}),
        }

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        # After a refusal the cursor waits where the mistake is.
        for name in list(self.errors)[:1]:
            self.fields[name].widget.attrs["autofocus"] = True
