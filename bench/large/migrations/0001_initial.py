"""Two empty tables."""

from django.db import migrations, models


def table(name: str) -> migrations.CreateModel:
    """Return the operation that makes one of them."""
    fields = [
        (
            "id",
            models.BigAutoField(
                auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
            ),
        ),
        ("name", models.TextField()),
        ("note", models.TextField()),
        ("made", models.DateTimeField()),
        ("number", models.IntegerField()),
    ]
    return migrations.CreateModel(name=name, fields=fields)


class Migration(migrations.Migration):
    """Make them."""

    initial = True
    dependencies = []
    operations = [table("Line"), table("Word")]
