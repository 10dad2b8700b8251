"""An index of every row."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Make it."""

    dependencies = [("large", "0002_size")]
    operations = [migrations.AlterField("line", "number", models.IntegerField(db_index=True))]
