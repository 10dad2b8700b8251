"""A column with a value for every row."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Add it."""

    dependencies = [("large", "0001_initial")]
    operations = [migrations.AddField("line", "size", models.IntegerField(db_default=0))]
