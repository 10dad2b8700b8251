"""The stock, with a thousand items in it."""

from django.db import migrations, models


def fill(apps, schema_editor):
    """Put in five kinds and a thousand items."""
    kind, item = apps.get_model("stock", "Kind"), apps.get_model("stock", "Item")
    kinds = kind.objects.bulk_create(kind(code=f"k{number}") for number in range(5))
    item.objects.bulk_create(
        item(name=f"item {n}", price=n % 40, note=f"note {n}", kind=kinds[n % 5])
        for n in range(1000)
    )


class Migration(migrations.Migration):
    """Make the tables and fill them."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Kind",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("code", models.CharField(max_length=9, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="Item",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=50)),
                ("price", models.IntegerField(default=0)),
                ("note", models.TextField(null=True)),
                (
                    "kind",
                    models.ForeignKey(
                        null=True, on_delete=models.deletion.CASCADE, to="stock.kind"
                    ),
                ),
            ],
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
